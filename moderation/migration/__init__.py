"""Old scores of the Perspective API, compared with this model's -> thresholds that keep old decisions."""
