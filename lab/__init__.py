"""Labs: containerlab topologies, the runner that brings them up in network namespaces, and the demo."""
