"""Which layer and method are the most faithful, for one's own model on one's own photos?"""
