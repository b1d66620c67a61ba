"""Pictures: ornaments, avatars and painted images, as template globals."""
