"""Deployments on a whole control plane with simulated GPU nodes: KUBEBUILDER_ASSETS, or KUBECONFIG's cluster."""
