-- owned_tiers: what a customer holds and has bought of an event, by tier, as `tier:tickets,...`: the items of a booking, or
-- those of several together. In a hash beside the event's owners, which has what that comes to.
local function owned_tiers_key(owners)
  return (string.gsub(owners, ":own:", ":owntiers:", 1))
end
