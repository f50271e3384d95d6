from limpet.queue import Queue


def test_first_in_first_out_with_unbroken_numbers():
    q = Queue(4)
    for i in range(3):
        q.append(1000 * i + 7, i, 0, -i)
    assert (q.first, q.next, len(q), q.lost) == (0, 3, 3, 0)
    assert q.get(2) == (2, 7, 2, 0, -2)
    q.ack(2)
    assert (q.first, len(q)) == (2, 1)
    q.ack(1)  # an old acknowledgement changes nothing
    assert q.first == 2


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
