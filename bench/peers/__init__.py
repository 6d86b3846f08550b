"""Worker scripts that run inside the peers' own environment; they import nothing of fastdesc."""
