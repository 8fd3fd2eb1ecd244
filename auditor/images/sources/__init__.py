"""Where photos come from: folders, manifests, data sets and tar files."""
