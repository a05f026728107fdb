"""What robots see: pictures of the splat, objects drawn into them, and what a real sensor does to them."""
