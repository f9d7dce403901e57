//! The step about sizes: each holder states its own, and what is said of the content is a hint.

use super::{Catalog, CatalogPut, NOW, Search, announce, id, join, put, search, user};

pub(super) async fn each_holder_states_a_size_of_its_own(catalog: &dyn Catalog) {
    let film = id("film.mkv");
    let claim =
        |size, name: &str, pieces_held| CatalogPut { content_id: film, size, pieces_held, ..put(name) };
    let viewer = user("viewer");
    let claims = async || {
        let located = catalog.locate(&film, &viewer, NOW).await.unwrap().unwrap();
        let many = catalog.locate_many(&[film], &viewer, NOW).await.unwrap();
        let of_one: Vec<_> = located.holders.iter().map(|holder| (holder.size, holder.pieces_held)).collect();
        let of_many: Vec<_> =
            many.items[0].holders.iter().map(|holder| (holder.size, holder.pieces_held)).collect();
        assert_eq!(of_one, of_many);
        let found = catalog.search(&search("film"), &viewer, NOW).await.unwrap();
        assert_eq!((located.size, located.size), (many.items[0].size, found.items[0].size), "one hint");
        (located.size, of_one)
    };
    // Whoever is first has the word until somebody else comes; two against one have it from then on.
    let liar = join(catalog, "liar", 1).await;
    announce(catalog, liar, 0, vec![claim(5, "film.mkv", 1)]).await;
    assert_eq!(claims().await, (5, vec![(5, 1)]));
    let ana = join(catalog, "ana", 2).await;
    announce(catalog, ana, 0, vec![claim(3 << 20, "film.mkv", 3)]).await;
    let bob = join(catalog, "bob", 3).await;
    announce(catalog, bob, 0, vec![claim(3 << 20, "a film.mkv", 2)]).await;
    assert_eq!(claims().await, (3 << 20, vec![(5, 1), (3 << 20, 3), (3 << 20, 2)]));
    // Many names are not many holders; what fits a larger size is not cut to a smaller one.
    let names: Vec<_> = (0..20).map(|n| claim(99 << 20, &format!("film {n}.mkv"), 99)).collect();
    announce(catalog, liar, 1, names).await;
    assert_eq!(claims().await, (3 << 20, vec![(99 << 20, 99), (3 << 20, 3), (3 << 20, 2)]));
    // Whoever is off has no say while somebody is online.
    let mut others = Vec::new();
    for n in 4..8 {
        let other = join(catalog, &format!("other{n}"), n).await;
        announce(catalog, other, 0, vec![claim(7, "film.mkv", 1)]).await;
        others.push(other);
    }
    assert_eq!(claims().await.0, 7);
    for other in others {
        catalog.logout(other, NOW).await.unwrap();
    }
    assert_eq!(claims().await.0, 3 << 20);
    // A search for sizes shows what it looked for.
    let small = Search { max_size: 10, ..search("film") };
    let small = catalog.search(&small, &viewer, NOW).await.unwrap();
    assert_eq!(small.items[0].size, 5);
}
