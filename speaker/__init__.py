"""A BGP speaker library (RFC 4271) for VPN families; knows nothing of VPN instances or of Linux."""
