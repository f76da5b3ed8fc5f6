-- shops: what each shop's customers hold and have bought of an event, by tier, in a hash beside the event's owners: shop:tier ->
-- tickets. Counted for every sale, so that an allocation that comes later knows what its shop has.
local function shops_key(owners)
  return (string.gsub(owners, ":own:", ":shops:", 1))
end
