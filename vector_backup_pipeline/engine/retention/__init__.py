"""Which sets a directory keeps, and taking away the others without ever leaving half of one."""
