"""Parts of one's own for Mammoscope: a detector, a backbone, two losses, an augmentation."""
