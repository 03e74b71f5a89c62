//! Docker, and Podman through its compatible socket.
