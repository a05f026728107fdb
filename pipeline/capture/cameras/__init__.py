"""What particular kinds of cameras write beside their images: 360-degree cameras, drones, action cameras."""
