"""What robots see: images of the splat, objects drawn into them, and what a real sensor does to them."""
