"""How much the splat's images can be trusted, by position and direction."""
