"""Kernels in C++ for CPUs, compiled on the user's machine when they are first needed."""
