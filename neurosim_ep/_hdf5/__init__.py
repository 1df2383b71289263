"""What all HDF5 files of this program share: how they are written, and read without trust."""
