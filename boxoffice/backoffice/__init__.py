"""What operators ask and do: find bookings of any shop, cancel and refund at the desk, and what of it is written down."""
