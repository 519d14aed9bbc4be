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
    /// A sign beside the title.
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
        icon: "📊",
    },
    Category {
        slug: "code-analysis-review",
        title: "Code analysis & review",
        description: "Reads changes before people do.",
        icon: "🔍",
    },
    Category {
        slug: "documentation-generation",
        title: "Documentation",
        description: "Writes and mends what explains the code.",
        icon: "📝",
    },
    Category {
        slug: "devops-deployment",
        title: "DevOps & deployment",
        description: "Builds, ships and watches.",
        icon: "🚀",
    },
    Category { slug: "testing-qa", title: "Testing & QA", description: "Finds out whether it works.", icon: "🧪" },
    Category {
        slug: "security-compliance",
        title: "Security & compliance",
        description: "Finds holes, leaks and broken rules.",
        icon: "🛡️",
    },
    Category {
        slug: "database-data",
        title: "Database & data",
        description: "Queries, schemas, pipelines and migrations.",
        icon: "🗄️",
    },
    Category {
        slug: "frontend-ui",
        title: "Frontend & UI",
        description: "Screens, styles and components.",
        icon: "🎨",
    },
    Category {
        slug: "backend-api", title: "Backend & API", description: "Services and their interfaces.", icon: "⚙️"
    },
    Category {
        slug: "research-analysis",
        title: "Research & analysis",
        description: "Gathers, reads and sums up.",
        icon: "🔬",
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
