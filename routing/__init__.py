"""The domain: embed, score, split, dispatch, price, measure, train. It prints nothing."""
