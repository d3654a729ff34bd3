"""Plan -> a healthy endpoint on a cluster, and back: preflight, apply, wait, explain, revisions, day two."""
