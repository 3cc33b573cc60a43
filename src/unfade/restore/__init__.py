"""From a clip and a wish to a restoration, with any backbone."""
