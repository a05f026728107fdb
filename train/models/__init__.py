"""Networks: encoders of what robots see, policies on top of them."""
