//! The links that a partition cuts.

use super::rule::Link;

/// Cuts two groups off from each other, both ways.
pub fn split(one: &[u16], other: &[u16]) -> Vec<Link> {
    let pairs = one.iter().flat_map(|from| other.iter().map(|to| Link::new(*from, *to)));
    pairs.flat_map(|link| [link, link.back()]).collect()
}

/// Nothing of what a node sends arrives; it still hears the others.
pub fn mute(node: u16, nodes: &[u16]) -> Vec<Link> {
    nodes.iter().filter(|other| **other != node).map(|other| Link::new(node, *other)).collect()
}

/// A node hears nothing; the others still hear it.
pub fn deaf(node: u16, nodes: &[u16]) -> Vec<Link> {
    mute(node, nodes).into_iter().map(Link::back).collect()
}

/// Every node reaches its two neighbours only. Of three nodes each has two neighbours anyway; there
/// the ring goes one way round: 1 hears 3, 2 hears 1, 3 hears 2.
pub fn ring(nodes: &[u16]) -> Vec<Link> {
    let size = nodes.len();
    let mut cut = Vec::new();
    for (place, from) in nodes.iter().enumerate() {
        for (other, to) in nodes.iter().enumerate() {
            let forward = (other + size - place) % size;
            let is_neighbour = forward == 1 || (size > 3 && forward == size - 1);
            if place != other && !is_neighbour {
                cut.push(Link::new(*from, *to));
            }
        }
    }
    cut
}

/// Two halves that only the node between them reaches.
pub fn bridge(between: u16, nodes: &[u16]) -> Vec<Link> {
    let others: Vec<u16> = nodes.iter().copied().filter(|node| *node != between).collect();
    let (one, other) = others.split_at(others.len() / 2);
    split(one, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(links: Vec<Link>) -> Vec<String> {
        let mut texts: Vec<String> = links.into_iter().map(|link| link.to_string()).collect();
        texts.sort();
        texts
    }

    #[test]
    fn a_ring_of_five_leaves_neighbours_and_one_of_three_goes_one_way_round() {
        let cut = ring(&[1, 2, 3, 4, 5]);
        assert_eq!(cut.len(), 10);
        assert!(!cut.contains(&Link::new(5, 1)) && cut.contains(&Link::new(1, 3)));
        assert_eq!(texts(ring(&[1, 2, 3])), ["1->3", "2->1", "3->2"]);
    }

    #[test]
    fn a_bridge_reaches_both_halves() {
        assert_eq!(texts(bridge(2, &[1, 2, 3])), ["1->3", "3->1"]);
        let cut = bridge(3, &[1, 2, 3, 4, 5]);
        assert!(cut.iter().all(|link| link.from != 3 && link.to != 3));
        assert_eq!(cut.len(), 8);
    }

    #[test]
    fn one_way_is_one_way() {
        assert_eq!(texts(mute(1, &[1, 2, 3])), ["1->2", "1->3"]);
        assert_eq!(texts(deaf(1, &[1, 2, 3])), ["2->1", "3->1"]);
    }
}
