//! Remote calls whose behaviour under failure is declared, enforced and proven.
