"""Old scores of the Perspective API beside this model's -> thresholds that go on deciding as before."""
