"""Log lines, and card numbers kept out of them. May be lost, never stops anybody."""
