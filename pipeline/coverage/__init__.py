"""How much the splat's images can be trusted, by place and direction."""
