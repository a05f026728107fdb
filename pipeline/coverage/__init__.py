"""How much the splat's pictures can be trusted, by place and direction."""
