"""All that is true about selling tickets, whoever asks: shop, worker or operator."""
