"""Classes of a user's own, each in a file of its own: what somebody writes who adds an architecture to the package."""
