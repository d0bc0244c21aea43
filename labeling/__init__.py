"""From images to a teacher's answers on disk."""
