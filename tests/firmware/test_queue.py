from limpet.queue import Queue


def test_first_in_first_out_with_unbroken_numbers():
    q = Queue(4)
    for i in range(3):
        q.append(1000 * i + 7, i, 0, -i)
    assert (q.first, q.next, len(q), q.lost) == (0, 3, 3, 0)
    assert q.get(2) == (2, 7, 2, 0, -2)
    q.ack(0, 2)
    assert (q.first, len(q), q.lost) == (2, 1, 0)
    q.ack(2, 2)  # of nothing
    assert (q.first, q.lost) == (2, 0)


def test_what_was_dropped_on_its_way_and_arrived_is_not_lost():
    q = Queue(4)
    for i in range(4):
        q.append(i, 1, 0, i)
    for i in range(6):  # 0 to 3 are on their way: 0 to 5 are dropped
        q.append(i, 1, 0, i)
    assert (q.first, q.lost) == (6, 6)
    q.ack(0, 3)
    assert (q.first, q.lost) == (6, 3)
    q.ack(3, 7)  # 3 to 5 dropped, 6 still here
    assert (q.first, q.lost, len(q)) == (7, 0, 3)


def test_full_drops_the_oldest_and_counts():
    q = Queue(4)
    for i in range(11):
        q.append(i, 1, 0, i)
    assert (q.first, q.next, q.lost) == (7, 11, 7)
    assert [q.get(s)[4] for s in range(q.first, q.next)] == [7, 8, 9, 10]


def test_keeps_the_whole_range_of_a_value_and_of_uptime():
    q = Queue(2)
    q.append(4294967295999, 255, 11, -2147483648)
    q.append(0, 0, 0, 2147483647)
    assert q.get(0) == (4294967295, 999, 255, 11, -2147483648)
    assert q.get(1) == (0, 0, 0, 0, 2147483647)


def test_epochs_differ():
    epochs = {Queue(1).epoch for _ in range(20)}
    assert len(epochs) == 20
    assert all(len(e) == 8 for e in epochs)
