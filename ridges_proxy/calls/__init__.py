"""The course of a call: admit, reserve, call the upstream, settle; and the background tasks around it."""
