"""Money, without I/O: amounts, prices, quotes, upper bounds of usage, and settlement."""
