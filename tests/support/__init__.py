"""What several tests share: test cases, certificates, peers."""
