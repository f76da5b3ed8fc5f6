-- draw: this shop, with this code (nil: none), took so many tickets of a tier as allocations has it.
local function draw(tier, shop, code, tickets)
  for _, holder in ipairs({ "@" .. shop, code and "k" .. code }) do
    local drawn = math.min(tier[holder] or 0, tickets)
    if drawn > 0 then
      tier[holder], tier.reserved = tier[holder] - drawn, tier.reserved - drawn
    end
  end
end
