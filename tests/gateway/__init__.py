"""A gateway: clients of Centrifuge's protocol."""
