"""Plug-ins by which OpenStack's Neutron drives nodes.

They run in Neutron's processes and import nothing of the daemon: they speak HTTP to it.
"""
