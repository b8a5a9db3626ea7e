"""What tests of gRPC share: the interop service, its cases, and the other ends, which are programs of their own."""
