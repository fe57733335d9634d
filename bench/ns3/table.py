def markdown(t, s):
    return ""
