"""Files that must survive power loss."""
