"""Vision-language models that think and point."""
