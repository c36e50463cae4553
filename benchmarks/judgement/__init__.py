"""
How good are the decisions? Made-up lives of Pods under idlewatch's policy and under the rules of the field.

    published.py   distributions and recordings that others published, as far as lives are fitted to them
    days.py        what a Pod does, hour by hour, with the truth: when it was needed      (doing.py: its vocabulary)
    observed.py    what can be measured of it every 30 s
    rules.py       the field's rules, each re-stated from what was published of it
    product.py     the real judges and the real policy on readings made from what was observed      (facts.py)
    measures.py    idle dollars, false stops, the optimum of hindsight
    learned.py     IDLEWATCH_IDLE_AFTER=auto on lists of gaps
    sensitive.py   what each default costs, were it another
    band.py        what lies between two limits of GPU utilization, in what was published and recorded
    drawn.py       the picture
"""
