"""From neutral objects to the Linux kernel and back."""
