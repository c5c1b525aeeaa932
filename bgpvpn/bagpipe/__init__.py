"""In the place of bagpipe-bgp: its REST API, its looking glass and its bgp.conf, over our intent."""
