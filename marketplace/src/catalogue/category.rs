//! The ten categories. They are part of the product, not data: their slugs are in addresses.

use crate::problem::{Problem, Result};

/// One category.
#[derive(Debug)]
pub struct Category {
    /// In addresses.
    pub slug: &'static str,
    /// On pages.
    pub title: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// A sign beside the title: the path of an SVG line of 24 by 24. Emoji look different everywhere, or are missing.
    pub icon: &'static str,
}

/// At most so many an agent.
pub const PER_AGENT_MAX: usize = 3;

/// All, in the order of pages.
pub const CATEGORIES: [Category; 10] = [
    Category {
        slug: "business-intelligence",
        title: "Business intelligence",
        description: "Dashboards, forecasts and answers from company data.",
        icon: "M3 21h18M6 17v-6M11 17V5M16 17v-8",
    },
    Category {
        slug: "code-analysis-review",
        title: "Code analysis & review",
        description: "Reads changes before people do.",
        icon: "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM16 16l5 5M9.5 8.5L7 11l2.5 2.5M12.5 8.5L15 11l-2.5 2.5",
    },
    Category {
        slug: "documentation-generation",
        title: "Documentation",
        description: "Writes and mends what explains the code.",
        icon: "M6 3h9l4 4v14H6zM15 3v4h4M9 12h7M9 16h7",
    },
    Category {
        slug: "devops-deployment",
        title: "DevOps & deployment",
        description: "Builds, ships and watches.",
        icon: "M12 3c4 3 5 7 4 11l-4 3l-4-3c-1-4 0-8 4-11zM12 9v2M8 14l-3 3v4l4-3M16 14l3 3v4l-4-3",
    },
    Category {
        slug: "testing-qa",
        title: "Testing & QA",
        description: "Finds out whether it works.",
        icon: "M9 3h6M10 3v6l-5 9a2 2 0 0 0 2 3h10a2 2 0 0 0 2-3l-5-9V3M8 15h8",
    },
    Category {
        slug: "security-compliance",
        title: "Security & compliance",
        description: "Finds holes, leaks and broken rules.",
        icon: "M12 3l8 3v6c0 5-4 8-8 9c-4-1-8-4-8-9V6zM8.5 12l2.5 2.5l4.5-4.5",
    },
    Category {
        slug: "database-data",
        title: "Database & data",
        description: "Queries, schemas, pipelines and migrations.",
        icon: "M4 6a8 3 0 0 0 16 0a8 3 0 0 0-16 0v12a8 3 0 0 0 16 0V6M4 12a8 3 0 0 0 16 0",
    },
    Category {
        slug: "frontend-ui",
        title: "Frontend & UI",
        description: "Screens, styles and components.",
        icon: "M3 5h18v14H3zM3 9h18M9 9v10",
    },
    Category {
        slug: "backend-api",
        title: "Backend & API",
        description: "Services and their interfaces.",
        icon: "M4 4h16v6H4zM4 14h16v6H4zM8 7h1M8 17h1M13 7h3M13 17h3",
    },
    Category {
        slug: "research-analysis",
        title: "Research & analysis",
        description: "Gathers, reads and sums up.",
        icon: "M4 5a8 8 0 0 1 8 2a8 8 0 0 1 8-2v13a8 8 0 0 0-8 2a8 8 0 0 0-8-2zM12 7v13",
    },
];

impl Category {
    /// The category of a slug.
    pub fn of(slug: &str) -> Result<&'static Self> {
        CATEGORIES.iter().find(|c| c.slug == slug).ok_or_else(|| {
            let slugs: Vec<&str> = CATEGORIES.iter().map(|c| c.slug).collect();
            Problem::not_found(format!("no category '{slug}'; there are {}", slugs.join(", ")))
        })
    }
}
