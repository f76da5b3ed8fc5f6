"""What shops send and what they see: bodies read strictly, views rendered. No headers, no framework."""
