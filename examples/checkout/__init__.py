"""A checkout as a saga: what was taken is given back when the payment is declined."""
