"""Base models of several families behind one interface."""
