"""From targets to maps: gradients, weights, ReLU (Figure 2). The table of methods: ``methods``."""
