"""How near hardware's gradients are to exact ones, over beta and the kind of reads."""
